(class_declaration declaration_kind: "extension" name: (_) @name) @extension
(class_declaration name: (_) @name) @class
(protocol_declaration name: (_) @name) @class
(function_declaration name: (simple_identifier) @name) @function
(function_declaration "func" . _ @name) @function
(protocol_function_declaration name: (_) @name) @function
(init_declaration "init" @name) @method
(deinit_declaration "deinit" @name) @method
(subscript_declaration "subscript" @name) @method
(property_declaration name: (pattern bound_identifier: (_) @name) computed_value: (_)) @method
(source_file (property_declaration name: (pattern bound_identifier: (_) @name)) @constant)
(typealias_declaration name: (type_identifier) @name) @class
(macro_declaration (simple_identifier) @name) @function
[(comment) (multiline_comment)] @above
