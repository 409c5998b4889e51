(class_definition name: (identifier) @name) @class
(function_definition name: (identifier) @name) @function
((module (assignment left: (identifier) @name) @constant)
  (#not-match? @name "^__"))
((class_definition body: (block (assignment left: (identifier) @name) @constant))
  (#match? @name "^_?[A-Z][A-Z0-9_]+$"))
(type_alias_statement left: (type) @name) @class
[(comment) (decorator)] @above
