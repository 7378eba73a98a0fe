import type { Task } from '../task.ts';

/** Objects in, or objects out. */
export const objects: readonly Task[] = [
  {
    doc: 'Returns the keys of an object.',
    signature: 'keys(object)',
    tests: [
      ['keys({ a: 1, b: 2 })', "['a', 'b']"],
      ['keys({})', '[]'],
    ],
  },
  {
    doc: 'Returns the values of an object.',
    signature: 'values(object)',
    tests: [
      ['values({ a: 1, b: 2 })', '[1, 2]'],
      ['values({})', '[]'],
    ],
  },
  {
    doc: 'Checks if an object has the given key.',
    signature: 'has(object, key)',
    tests: [
      ["has({ a: 1 }, 'a')", 'true'],
      ["has({ a: 1 }, 'b')", 'false'],
    ],
  },
  {
    doc: 'Returns the property of an object with the given key.',
    signature: 'prop(key, object)',
    tests: [
      ["prop('a', { a: 1 })", '1'],
      ["prop('b', { a: 1 })", 'undefined'],
    ],
  },
  {
    doc: 'Returns the number of keys of an object.',
    signature: 'keyCount(obj)',
    tests: [
      ['keyCount({ a: 1, b: 2 })', '2'],
      ['keyCount({})', '0'],
    ],
  },
  {
    doc: 'Checks if an object has no keys.',
    signature: 'isEmptyObject(obj)',
    tests: [
      ['isEmptyObject({})', 'true'],
      ['isEmptyObject({ a: 1 })', 'false'],
    ],
  },
  {
    doc: 'Returns a shallow copy of an object.',
    signature: 'clone(object)',
    tests: [
      ['clone({ a: 1, b: 2 })', '{ a: 1, b: 2 }'],
      ['((o) => clone(o) === o)({})', 'false'],
    ],
  },
  {
    doc: 'Merges two objects into a new one; the second wins.',
    signature: 'merge(a, b)',
    tests: [
      ['merge({ a: 1, b: 2 }, { b: 3 })', '{ a: 1, b: 3 }'],
      ['merge({}, { c: 1 })', '{ c: 1 }'],
    ],
  },
  {
    doc: 'Sets a property of an object and returns the object.',
    signature: 'set(object, key, value)',
    tests: [
      ["set({ a: 1 }, 'b', 2)", '{ a: 1, b: 2 }'],
      ["set({}, 'a', 1)", '{ a: 1 }'],
    ],
  },
  {
    doc: 'Returns a new object with only the given keys.',
    signature: 'pick(object, keys)',
    tests: [
      ["pick({ a: 1, b: 2, c: 3 }, ['a', 'c'])", '{ a: 1, c: 3 }'],
      ['pick({ a: 1 }, [])', '{}'],
    ],
  },
  {
    doc: 'Returns a new object without the given keys.',
    signature: 'omit(object, keys)',
    tests: [
      ["omit({ a: 1, b: 2, c: 3 }, ['a', 'c'])", '{ b: 2 }'],
      ['omit({ a: 1 }, [])', '{ a: 1 }'],
    ],
  },
  {
    doc: 'Swaps the keys and values of an object.',
    signature: 'invert(object)',
    tests: [
      ["invert({ a: 'x', b: 'y' })", "{ x: 'a', y: 'b' }"],
      ['invert({})', '{}'],
    ],
  },
  {
    doc: 'Returns a point with the given coordinates.',
    signature: 'point(x, y)',
    tests: [
      ['point(1, 2)', '{ x: 1, y: 2 }'],
      ['point(0, -1)', '{ x: 0, y: -1 }'],
    ],
  },
  {
    doc: 'Applies a function to each value of an object and returns a new object.',
    signature: 'mapValues(object, fn)',
    tests: [
      ['mapValues({ a: 1, b: 2 }, (x) => x * 2)', '{ a: 2, b: 4 }'],
      ['mapValues({}, (x) => x)', '{}'],
    ],
  },
  {
    doc: 'Returns the [key, value] pairs of an object.',
    signature: 'toPairs(object)',
    tests: [
      ['toPairs({ a: 1, b: 2 })', "[['a', 1], ['b', 2]]"],
      ['toPairs({})', '[]'],
    ],
  },
  {
    doc: 'Groups the elements of an array by the result of fn.',
    signature: 'groupBy(array, fn)',
    tests: [
      ["groupBy([1, 2, 3], (x) => (x % 2 ? 'odd' : 'even'))", '{ odd: [1, 3], even: [2] }'],
      ['groupBy([], (x) => x)', '{}'],
    ],
  },
  {
    doc: 'Parses a string of JSON.',
    signature: 'parseJson(text)',
    tests: [
      ["parseJson('[1, 2]')", '[1, 2]'],
      ["parseJson('5')", '5'],
    ],
  },
  {
    doc: 'Returns the given value.',
    signature: 'identity(value)',
    tests: [
      ['identity(5)', '5'],
      ["identity('a')", "'a'"],
    ],
  },
  {
    doc: 'Returns a function that always returns the given value.',
    signature: 'constant(value)',
    tests: [
      ['constant(5)()', '5'],
      ["constant('a')(1)", "'a'"],
    ],
  },
  {
    doc: 'Returns a function that negates the result of the predicate.',
    signature: 'negate(predicate)',
    tests: [
      ['negate((x) => x > 1)(0)', 'true'],
      ['negate((x) => x > 1)(2)', 'false'],
    ],
  },
  {
    doc: 'Calls a function with the given arguments.',
    signature: 'apply(fn, args)',
    tests: [
      ['apply(Math.max, [1, 3, 2])', '3'],
      ['apply((a, b) => a - b, [5, 2])', '3'],
    ],
  },
];
