/** One run at a time on a device's step state: callers queue up in order. */
export class Lock {
  #tail: Promise<void> = Promise.resolve();

  /** Waits for its turn; call the function it gives when done. */
  async acquire(): Promise<() => void> {
    const before = this.#tail;
    let release: () => void = () => undefined;
    this.#tail = new Promise((resolve) => (release = resolve));
    await before;
    return release;
  }
}
