#include <stdio.h>

#define LIMIT 3
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* What is bought. */
typedef struct cart {
    int items;
} cart_t;

enum colour { RED };

int cart_open(const char *name);

/* In cents. */
static int *cart_total(cart_t *cart)
{
    return &cart->items;
}

typedef int (*pay_fn)(int cents);
