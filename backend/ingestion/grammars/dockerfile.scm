(from_instruction as: (image_alias) @name) @constant
(comment) @above
