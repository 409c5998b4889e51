import { db } from "./db";

/** What can be paid. */
export interface Payable<T> {
  pay(amount: T): void;
}

export type Price = { cents: number };

enum Colour {
  Red,
}

namespace Shop.Inner {
  export class Till {
    // Opens it.
    @logged()
    open(): void {}
  }
}

export abstract class Cart implements Payable<Price> {
  abstract pay(amount: Price): void;

  private clear = (): void => {};
}

function find(id: number): Cart;
function find(id: string): Cart;
function find(id: unknown): Cart {
  return db.get(id);
}

export declare function total(cart: Cart): number;
