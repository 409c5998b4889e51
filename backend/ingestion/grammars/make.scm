(rule (targets) @name) @function
(define_directive name: (_) @name) @function
(variable_assignment name: (_) @name) @constant
(comment) @above
