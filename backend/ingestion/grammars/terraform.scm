(block . (identifier) @name (string_lit (template_literal) @name)? . (string_lit (template_literal) @name)?) @class
(comment) @above
