const marker = Symbol.for('ensample.error');

/**
 * Base of every error Ensample throws on purpose. One subclass per reaction a caller can have;
 * `code` is stable across versions and survives two copies of a package (`EnsampleError.isInstance`).
 */
export class EnsampleError extends Error {
  /** Machine-readable reason, e.g. `'INVALID_OPTION'`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }

  /** True for errors of any copy of this package. */
  static isInstance(error: unknown): error is EnsampleError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[marker] === true;
  }
}

/** The GPU went away (driver reset, tab in the background, `destroy()`): make a new engine. */
export class DeviceLostError extends EnsampleError {
  constructor(message: string, options?: ErrorOptions) {
    super('DEVICE_LOST', message, options);
  }
}

/** No adapter, or the adapter lacks what was asked for: install a driver, or choose another tier. */
export class UnsupportedFeatureError extends EnsampleError {
  constructor(message: string, options?: ErrorOptions) {
    super('UNSUPPORTED_FEATURE', message, options);
  }
}

/** The request does not fit in memory: fewer samples, a shorter context, or a smaller model. */
export class OutOfMemoryError extends EnsampleError {
  constructor(message: string, options?: ErrorOptions) {
    super('OUT_OF_MEMORY', message, options);
  }
}

/** A model's files are damaged, incomplete, or of an architecture that is not supported. */
export class InvalidModelError extends EnsampleError {
  constructor(message: string, options?: ErrorOptions) {
    super('INVALID_MODEL', message, options);
  }
}

/** A value passed by the caller is out of its range. */
export class InvalidOptionError extends EnsampleError {
  constructor(message: string, options?: ErrorOptions) {
    super('INVALID_OPTION', message, options);
  }
}

/** A contract inside Ensample was broken: a bug of ours, not of the caller's. */
export function invariant(condition: unknown, message: () => string): asserts condition {
  if (!condition) throw new Error(`Ensample internal error: ${message()}`);
}
