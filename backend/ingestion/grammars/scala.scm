(package_object name: (_) @name) @class
(class_definition name: (_) @name) @class
(object_definition name: (_) @name) @class
(trait_definition name: (_) @name) @class
(enum_definition name: (_) @name) @class
(given_definition name: (_) @name) @class
(type_definition name: (_) @name) @class
(function_definition name: (_) @name) @function
(function_declaration name: (_) @name) @function
(extension_definition parameters: (parameters (parameter type: (_) @name))) @extension
(template_body (val_definition pattern: (identifier) @name) @constant)
(compilation_unit (val_definition pattern: (identifier) @name) @constant)
[(comment) (block_comment)] @above
