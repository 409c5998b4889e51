(module name: (_) @name) @module
(class name: (_) @name) @class
(method name: (_) @name) @function
(singleton_method name: (_) @name) @function
; Point = Struct.new(:x) do ... end
(assignment left: (constant) @name right: (call block: (_))) @class
(call method: (identifier) @_method arguments: (argument_list . [(simple_symbol) (string)] @name) block: (_)
  (#any-of? @_method "define_method" "task")) @function
(assignment left: (constant) @name) @constant
(call method: (identifier) @_what arguments: (argument_list . (_) @name) block: (_)
  (#any-of? @_what "describe" "context" "feature" "it" "specify" "scenario" "test")) @block
(comment) @above
