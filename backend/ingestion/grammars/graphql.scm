(object_type_definition (name) @name) @class
(interface_type_definition (name) @name) @class
(input_object_type_definition (name) @name) @class
(enum_type_definition (name) @name) @class
(union_type_definition (name) @name) @class
(scalar_type_definition (name) @name) @class
(directive_definition (name) @name) @function
(operation_definition (name) @name) @function
(fragment_definition (fragment_name) @name) @function
(comment) @above
