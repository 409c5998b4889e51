<?php

namespace App\Shop;

use App\Base;

const LIMIT = 3;

/** What is bought. */
#[Entity]
final class Cart extends Base
{
    /** In cents. */
    public function total(): int
    {
        return 1;
    }
}

trait Payable
{
    abstract public function pay();
}

function open(): void
{
}
