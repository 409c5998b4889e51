(comment) @above
