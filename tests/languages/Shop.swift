import Foundation

let limit = 3

/// What is bought.
@objc public final class Cart: NSObject, @unchecked Sendable {
    init(items: [Int]) {
        self.items = items
    }

    /// In cents.
    @discardableResult
    public func total() -> Int {
        return 1
    }

    var size: Int { 1 }
}

protocol Payable {
    func pay()
}

extension Cart: Payable {
    func pay() {}
}

enum Colour {
    case red
}

func open() -> Cart { Cart(items: []) }
