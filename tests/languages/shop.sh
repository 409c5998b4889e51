#!/usr/bin/env bash
set -eu

LIMIT=3

# Opens the shop.
open_shop() {
  echo open
}

function close_shop {
  echo closed
}
