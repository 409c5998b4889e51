defmodule Shop.Cart do
  @moduledoc "What is bought."

  alias Shop.Base

  @type t :: map()

  defstruct [:items]

  @doc "In cents."
  @spec total(t()) :: integer()
  def total(%{items: []}), do: 0

  def total(cart) when is_map(cart) do
    Enum.sum(cart.items)
  end

  defp clear(cart), do: cart

  defmacro price(amount) do
    amount
  end
end

defimpl Enumerable, for: Shop.Cart do
  def count(_cart), do: 1
end
