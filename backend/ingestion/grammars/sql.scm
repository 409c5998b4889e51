(create_table (object_reference) @name) @class
(create_view (object_reference) @name) @class
(create_materialized_view (object_reference) @name) @class
(create_type (object_reference) @name) @class
(create_function (object_reference) @name) @function
(create_index (identifier) @name) @constant
[(comment) (marginalia)] @above
