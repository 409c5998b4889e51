require "json"

module Shop
  LIMIT = 3

  # What is bought.
  class Cart < Base
    attr_reader :items

    # In cents.
    def total
      items.sum
    end

    def self.open
      new
    end

    private def clear!
    end
  end

  Price = Struct.new(:cents) do
    def euros
      cents / 100
    end
  end
end
