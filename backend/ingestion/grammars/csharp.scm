(file_scoped_namespace_declaration name: (_) @name) @rest
(namespace_declaration name: (_) @name) @namespace
(class_declaration name: (_) @name) @class
(struct_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(delegate_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @method
(constructor_declaration name: (_) @name) @method
(destructor_declaration name: (_) @name) @method
(property_declaration name: (_) @name) @method
(event_declaration name: (_) @name) @method
(local_function_statement name: (_) @name) @function
(indexer_declaration "this" @name) @method
(operator_declaration operator: _ @name) @method
(field_declaration (modifier "const") (variable_declaration (variable_declarator name: (_) @name))) @constant
(comment) @above
