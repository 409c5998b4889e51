package shop;

import java.util.List;

/** What is bought. */
@Entity
public class Shop<T> extends Base {
  public static final int MAX_ITEMS = 3;

  public Shop() {}

  /** In cents. */
  @Override
  public int total(List<T> items) {
    return items.size();
  }

  enum Colour {
    RED;

    void paint() {}
  }

  record Price(int cents) {}

  interface Payable {
    void pay();
  }
}
