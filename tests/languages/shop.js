import { db } from "./db.js";

const LIMIT = 3;

/** What is bought. */
export class Cart extends Base {
  /** In cents. */
  get total() {
    return this.sum();
  }

  // A field that holds a function.
  handle = async (event) => this.add(event);

  #secret() {}
}

// Sums up.
export const sum = (items) => items.reduce((a, b) => a + b);

exports.open = function () {};

const api = {
  get(path) {
    return path;
  },
  post: async (path) => path,
};

Cart.prototype.clear = function () {};

describe("a cart", () => {
  it("is empty", () => {});
});
