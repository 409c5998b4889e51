using System;

namespace Shop.Inner;

/// <summary>What is bought.</summary>
[Serializable]
public class Cart<T> : Base
{
    public const int Limit = 3;

    public Cart() { }

    /// <summary>In cents.</summary>
    public int Total { get; set; }

    [Obsolete]
    public override int Sum<U>(U items)
    {
        int Local() => 1;
        return Local();
    }
}

interface IPayable
{
    void Pay();
}

public record Price(int Cents);
