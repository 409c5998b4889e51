(function_declaration name: (_) @name) @function
(assignment_statement (variable_list . name: (_) @name) (expression_list . value: (function_definition))) @function
(assignment_statement (variable_list . name: (_) @name)
  (expression_list . value: (table_constructor (field value: (function_definition))))) @module
(field name: (_) @name value: (function_definition)) @method
(chunk (variable_declaration (assignment_statement
  (variable_list . name: (_) @name)
  (expression_list . value: [(table_constructor) (number) (string) (true) (false) (nil)])) @constant))
(chunk (assignment_statement
  (variable_list . name: (_) @name)
  (expression_list . value: [(table_constructor) (number) (string) (true) (false) (nil)])) @constant)
(comment) @above
