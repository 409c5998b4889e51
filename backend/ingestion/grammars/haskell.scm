(signature name: (_) @name) @function
(signature names: (binding_list . name: (_) @name)) @function
(function name: (_) @name) @function
(function (infix operator: (_) @name)) @function
(declarations (bind name: (_) @name) @function)
(data_type name: (_) @name) @class
(newtype name: (_) @name) @class
(class name: (_) @name) @class
(type_synomym name: (_) @name) @class
(type_family name: (_) @name) @class
(data_family name: (_) @name) @class
(instance name: (_) @name patterns: (_)? @name) @extension
(pattern_synonym (signature synonym: (_) @name)) @function
(pattern_synonym (equation synonym: (_) @name)) @function
(foreign_import signature: (signature name: (_) @name)) @function
(data_constructor constructor: (_ name: (_) @name)) @constant
(newtype_constructor name: (_) @name) @constant
[(comment) (haddock) (pragma)] @above
