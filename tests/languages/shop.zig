const std = @import("std");

const limit = 3;

/// What is bought.
pub const Cart = struct {
    items: []const u8,

    /// In cents.
    pub fn total(self: *Cart) usize {
        return self.items.len;
    }

    const Colour = enum { red };
};

fn List(comptime T: type) type {
    return struct {
        fn get(self: @This()) T {
            return self.one;
        }
    };
}

test "a cart is empty" {
    try std.testing.expect(true);
}
