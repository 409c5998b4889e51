local json = require "json"

local Cart = {}

--- What it costs, in cents.
function Cart:total()
  return 1
end

function Cart.open(name)
  return name
end

local function clear(cart)
  cart.items = {}
end

Cart.add = function(self, item)
  self.items[#self.items + 1] = item
end

return Cart
