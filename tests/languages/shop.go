package shop

import "fmt"

const Limit = 3

// Cart holds what is bought.
type Cart struct {
	items []Item
}

// Total is in cents.
func (c *Cart) Total() int {
	return len(c.items)
}

type List[T any] interface {
	Get(i int) T
}

func (l list[T]) Get(i int) T { return l[i] }

// Open opens the shop.
func Open() error { return fmt.Errorf("closed") }
