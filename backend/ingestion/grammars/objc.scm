(class_interface . (identifier) @name) @class
(class_implementation . (identifier) @name) @extension
(protocol_declaration . (identifier) @name) @class
(method_declaration . (method_type)? . (identifier) @name) @constant
(method_definition . (method_type)? . (identifier) @name) @method
