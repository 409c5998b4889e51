(class_declaration name: (_) @name) @class
(function_declaration name: (identifier) @name) @function
(generator_function_declaration name: (identifier) @name) @function
(method_definition name: (_) @name) @method
(variable_declarator name: (identifier) @name value: [(arrow_function) (function_expression) (generator_function)]) @function
(variable_declarator name: (identifier) @name value: (class)) @class
; const Card = memo(function Card() {})
(variable_declarator name: (identifier) @name
  value: (call_expression arguments: (arguments . [(arrow_function) (function_expression)]))) @function
(variable_declarator name: (identifier) @name
  value: (object [(method_definition) (pair value: [(arrow_function) (function_expression)])])) @module
((program (lexical_declaration (variable_declarator name: (identifier) @name) @constant))
  (#match? @name "^_?[A-Z][A-Z0-9_]+$"))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name) @constant)))
(assignment_expression
  left: (member_expression) @name
  right: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression left: (member_expression) @name right: (class)) @class
(assignment_expression
  left: (member_expression) @name
  right: (object [(method_definition) (pair value: [(arrow_function) (function_expression)])])) @module
(pair key: (_) @name value: [(arrow_function) (function_expression)]) @method
(export_statement "default" @name value: [(arrow_function) (function_expression) (class)]) @function
(call_expression
  function: (identifier) @_what
  arguments: (arguments . (string) @name . [(arrow_function) (function_expression)])
  (#any-of? @_what "describe" "context" "suite" "it" "test" "specify")) @block
[(comment) (decorator)] @above
