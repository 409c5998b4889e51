(Decl (VarDecl variable_type_function: (_) @name
  (ErrorUnionExpr (SuffixExpr [(ContainerDecl) (ErrorSetDecl)])))) @class
(Decl (FnProto function: (_) @name)) @function
(TestDecl [(STRINGLITERALSINGLE) (IDENTIFIER)] @name) @block
((source_file (Decl (VarDecl variable_type_function: (_) @name (_) @_value)) @constant)
  (#not-match? @_value "^@import"))
[(line_comment) (doc_comment)] @above
