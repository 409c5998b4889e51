package shop

import java.util.UUID

const val LIMIT = 3

/** What is bought. */
@Serializable
data class Cart(val items: List<Int>) : Base() {
    companion object {
        fun open() = Cart(listOf())
    }

    val size: Int
        get() = items.size

    /** In cents. */
    override fun total(): Int {
        return items.sum()
    }
}

fun <T> List<T>.second(): T = this[1]

object Till {
    fun ring() {}
}

fun interface Payable {
    fun pay()
}

typealias Cents = Int
