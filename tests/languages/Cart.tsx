import React from "react";

/** Shows a cart. */
export const CartView = React.memo(function Inner(props: Props) {
  return <b>{props.total}</b>;
});

export default function App() {
  return <CartView total={1} />;
}
