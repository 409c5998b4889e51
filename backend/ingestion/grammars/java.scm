(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(annotation_type_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @method
(constructor_declaration name: (_) @name) @method
(compact_constructor_declaration name: (_) @name) @method
((class_body (field_declaration declarator: (variable_declarator name: (_) @name)) @constant)
  (#match? @name "^_?[A-Z][A-Z0-9_]+$"))
(constant_declaration declarator: (variable_declarator name: (_) @name)) @constant
[(line_comment) (block_comment)] @above
