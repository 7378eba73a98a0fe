import { InvalidModelError } from '@ensample/tensor';

/** Typed, validated reads from one parsed JSON object; every refusal names the file, the key and the value. */
export interface JsonObject {
  keys(): string[];
  /** The raw value; `undefined` where the key is absent or null. */
  raw(key: string): unknown;
  integer(key: string, min: number, max: number, fallback?: number): number;
  number(key: string, min: number, max: number, fallback?: number): number;
  boolean(key: string, fallback: boolean): boolean;
  string(key: string, fallback?: string): string;
  array(key: string): readonly unknown[] | undefined;
  object(key: string): JsonObject | undefined;
  /** Throws: this value cannot be used. */
  refuse(key: string, expected: string): never;
}

/** A value as error messages show it, cut to a readable length. */
export function show(value: unknown): string {
  const text = value === undefined ? 'missing' : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/**
 * @param file what error messages call the source, e.g. `config.json`
 * @throws InvalidModelError where `value` is not a JSON object
 */
export function jsonObject(value: unknown, file: string, path = ''): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidModelError(
      `${file}: ${path || 'the content'} is ${show(value)}; expected a JSON object.`,
    );
  }
  const raw = (key: string): unknown =>
    Object.hasOwn(value, key) ? ((value as Record<string, unknown>)[key] ?? undefined) : undefined;
  const nameOf = (key: string): string => (path ? `${path}.${key}` : key);
  const refuse = (key: string, expected: string): never => {
    throw new InvalidModelError(`${file}: ${nameOf(key)} is ${show(raw(key))}; ${expected}.`);
  };
  return {
    keys: () => Object.keys(value),
    raw,
    refuse,
    integer: (key, min, max, fallback) => {
      const found = raw(key) ?? fallback;
      const fits = isWithin(found, min, max) && Number.isInteger(found);
      return fits ? found : refuse(key, `expected an integer from ${min} to ${max}`);
    },
    number: (key, min, max, fallback) => {
      const found = raw(key) ?? fallback;
      return isWithin(found, min, max) ? found : refuse(key, `expected a number from ${min} to ${max}`);
    },
    boolean: (key, fallback) => {
      const found = raw(key) ?? fallback;
      return typeof found === 'boolean' ? found : refuse(key, 'expected true or false');
    },
    string: (key, fallback) => {
      const found = raw(key) ?? fallback;
      return typeof found === 'string' ? found : refuse(key, 'expected a string');
    },
    array: (key) => {
      const found = raw(key);
      return found === undefined || Array.isArray(found) ? found : refuse(key, 'expected an array');
    },
    object: (key) => (raw(key) === undefined ? undefined : jsonObject(raw(key), file, nameOf(key))),
  };
}

function isWithin(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && value >= min && value <= max;
}
