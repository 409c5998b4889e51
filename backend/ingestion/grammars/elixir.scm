(call target: (identifier) @_what (arguments . (alias) @name)
  (#any-of? @_what "defmodule" "defprotocol")) @module
(call target: (identifier) @_what (arguments . (alias) @name (keywords (pair value: (_) @name))?)
  (#eq? @_what "defimpl")) @extension
(call target: (identifier) @_what
  (arguments . [
    (identifier) @name
    (call target: (identifier) @name)
    (binary_operator left: (identifier) @name operator: "when")
    (binary_operator left: (call target: (identifier) @name) operator: "when")
  ])
  (#any-of? @_what "def" "defp" "defmacro" "defmacrop" "defguard" "defguardp" "defdelegate" "defn" "defnp")) @function
(call target: (identifier) @_what
  (arguments . [
    (binary_operator left: (binary_operator operator: _ @name) operator: "when")
    (binary_operator operator: _ @name)
  ])
  (#any-of? @_what "def" "defp" "defmacro" "defmacrop")) @function
(call target: (identifier) @name (#any-of? @name "defstruct" "defexception")) @block
(call target: (identifier) @_what (arguments . (string) @name) (do_block)
  (#any-of? @_what "test" "describe")) @block
((comment) @above)
((unary_operator operator: "@" operand: (call target: (identifier) @_attribute)) @above
  (#not-eq? @_attribute "moduledoc"))
((unary_operator operator: "@" operand: (call target: (identifier) @_attribute
  (arguments (binary_operator left: [
    (identifier) @name
    (call target: (identifier) @name)
    (binary_operator left: [(identifier) @name (call target: (identifier) @name)])
  ])))) @constant
  (#any-of? @_attribute "type" "typep" "opaque" "callback" "macrocallback"))
