(class_declaration (type_identifier) @name) @class
(object_declaration (type_identifier) @name) @class
(companion_object (type_identifier)? @name) @class
(function_declaration receiver: (receiver_type) @scope (simple_identifier) @name) @method
(function_declaration (simple_identifier) @name) @function
(secondary_constructor "constructor" @name) @method
(property_declaration receiver: (receiver_type) @scope (variable_declaration (simple_identifier) @name)) @method
(property_declaration (variable_declaration (simple_identifier) @name) [(getter) (setter)]) @method
(source_file (property_declaration (variable_declaration (simple_identifier) @name)) @constant)
((class_body (property_declaration (variable_declaration (simple_identifier) @name)) @constant)
  (#match? @name "^_?[A-Z][A-Z0-9_]+$"))
(type_alias (type_identifier) @name) @class
[(line_comment) (multiline_comment)] @above
