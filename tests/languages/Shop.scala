package shop

import scala.collection.mutable

/** What is bought. */
@entity case class Cart[T](items: List[T]) extends Base {
  val Limit = 3

  /** In cents. */
  override def total: Int =
    items.size

  def size: Int = 1
}

object Cart {
  def open(): Cart[Int] = Cart(Nil)
}

trait Payable {
  def pay(): Unit
}
