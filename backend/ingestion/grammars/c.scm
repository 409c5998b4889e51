(function_definition declarator: (_) @name) @function
(type_definition type: (_ name: (_) @name body: (_)) @constant)
(struct_specifier name: (_) @name body: (_)) @class
(union_specifier name: (_) @name body: (_)) @class
(enum_specifier name: (_) @name body: (_)) @class
(type_definition declarator: (_) @name) @class
(preproc_function_def name: (_) @name) @function
(preproc_def name: (_) @name value: (_)) @constant
(declaration declarator: (function_declarator) @name) @constant
(declaration declarator: (pointer_declarator declarator: (function_declarator)) @name) @constant
(translation_unit (declaration declarator: (init_declarator) @name) @constant)
(comment) @above
