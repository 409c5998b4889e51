module Shop.Cart (total) where

import Data.List (sum)

-- | What is bought.
data Cart a = Cart [a] | Empty
  deriving (Show)

-- | In cents.
total :: Cart Int -> Int
total Empty = 0
total (Cart items) =
  sum items

class Payable a where
  pay :: a -> Int

instance Payable (Cart a) where
  pay _ = 1

(<+>) :: Cart a -> Cart a -> Cart a
a <+> _ = a
