(namespace_definition name: (_) @name) @namespace
(class_specifier name: (_) @name body: (_)) @class
(alias_declaration name: (_) @name) @class
(concept_definition name: (_) @name) @class
(field_declaration declarator: (function_declarator) @name) @constant
(field_declaration declarator: (reference_declarator (function_declarator)) @name) @constant
(field_declaration declarator: (pointer_declarator declarator: (function_declarator)) @name) @constant
