import type { Task } from '../task.ts';

/** Any value in, true or false out. */
export const predicates: readonly Task[] = [
  {
    doc: 'Checks if a number is even.',
    signature: 'isEven(n)',
    tests: [
      ['isEven(4)', 'true'],
      ['isEven(7)', 'false'],
    ],
  },
  {
    doc: 'Checks if a number is odd.',
    signature: 'isOdd(n)',
    tests: [
      ['isOdd(4)', 'false'],
      ['isOdd(7)', 'true'],
    ],
  },
  {
    doc: 'Checks if value is a string.',
    signature: 'isString(value)',
    tests: [
      ["isString('a')", 'true'],
      ['isString(1)', 'false'],
    ],
  },
  {
    doc: 'Checks if a number is zero.',
    signature: 'isZero(n)',
    tests: [
      ['isZero(0)', 'true'],
      ['isZero(4)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is a number.',
    signature: 'isNumber(value)',
    tests: [
      ['isNumber(1)', 'true'],
      ["isNumber('1')", 'false'],
    ],
  },
  {
    doc: 'Checks if value is a boolean.',
    signature: 'isBoolean(value)',
    tests: [
      ['isBoolean(false)', 'true'],
      ['isBoolean(0)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is greater than zero.',
    signature: 'isPositive(value)',
    tests: [
      ['isPositive(4)', 'true'],
      ['isPositive(-7)', 'false'],
      ['isPositive(0)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is a function.',
    signature: 'isFunction(value)',
    tests: [
      ['isFunction(() => 1)', 'true'],
      ['isFunction({})', 'false'],
    ],
  },
  {
    doc: 'Checks if value is an array.',
    signature: 'isArray(value)',
    tests: [
      ['isArray([])', 'true'],
      ['isArray({ length: 0 })', 'false'],
    ],
  },
  {
    doc: 'Checks if value is an object and not null.',
    signature: 'isObject(value)',
    tests: [
      ['isObject({})', 'true'],
      ['isObject(null)', 'false'],
      ['isObject(1)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is less than zero.',
    signature: 'isNegative(value)',
    tests: [
      ['isNegative(4)', 'false'],
      ['isNegative(-7)', 'true'],
      ['isNegative(0)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is null.',
    signature: 'isNull(value)',
    tests: [
      ['isNull(null)', 'true'],
      ['isNull(undefined)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is undefined.',
    signature: 'isUndefined(value)',
    tests: [
      ['isUndefined(undefined)', 'true'],
      ['isUndefined(null)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is a symbol.',
    signature: 'isSymbol(value)',
    tests: [
      ['isSymbol(Symbol())', 'true'],
      ["isSymbol('a')", 'false'],
    ],
  },
  {
    doc: 'Checks if value is null or undefined.',
    signature: 'isNil(value)',
    tests: [
      ['isNil(null)', 'true'],
      ['isNil(undefined)', 'true'],
      ['isNil(0)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is a Date.',
    signature: 'isDate(value)',
    tests: [
      ['isDate(new Date(0))', 'true'],
      ["isDate('2020-01-01')", 'false'],
    ],
  },
  {
    doc: 'Checks if value is not undefined.',
    signature: 'isDefined(value)',
    tests: [
      ['isDefined(0)', 'true'],
      ['isDefined(undefined)', 'false'],
    ],
  },
  {
    doc: 'Checks if a number is between min and max, both included.',
    signature: 'inRange(value, min, max)',
    tests: [
      ['inRange(2, 1, 3)', 'true'],
      ['inRange(3, 1, 3)', 'true'],
      ['inRange(4, 1, 3)', 'false'],
      ['inRange(0, 1, 3)', 'false'],
    ],
  },
  {
    doc: 'Checks if two values are equal.',
    signature: 'equals(a, b)',
    tests: [
      ['equals(1, 1)', 'true'],
      ['equals(1, 2)', 'false'],
      ["equals('a', 'a')", 'true'],
    ],
  },
  {
    doc: 'Checks if a year is a leap year.',
    signature: 'isLeapYear(year)',
    tests: [
      ['isLeapYear(2024)', 'true'],
      ['isLeapYear(2023)', 'false'],
      ['isLeapYear(1900)', 'false'],
      ['isLeapYear(2000)', 'true'],
    ],
  },
  {
    doc: 'Checks if value is an integer.',
    signature: 'isInteger(value)',
    tests: [
      ['isInteger(4)', 'true'],
      ['isInteger(4.5)', 'false'],
    ],
  },
  {
    doc: 'Checks if a number is prime.',
    signature: 'isPrime(n)',
    tests: [
      ['isPrime(2)', 'true'],
      ['isPrime(9)', 'false'],
      ['isPrime(13)', 'true'],
      ['isPrime(1)', 'false'],
    ],
  },
  {
    doc: 'Checks if a character is a digit.',
    signature: 'isDigit(char)',
    tests: [
      ["isDigit('7')", 'true'],
      ["isDigit('a')", 'false'],
    ],
  },
  {
    doc: 'Returns the opposite of a boolean.',
    signature: 'not(value)',
    tests: [
      ['not(true)', 'false'],
      ['not(false)', 'true'],
    ],
  },
  {
    doc: 'Checks if every element of an array satisfies the predicate.',
    signature: 'every(array, predicate)',
    tests: [
      ['every([1, 2], (x) => x > 0)', 'true'],
      ['every([1, 2], (x) => x > 1)', 'false'],
    ],
  },
  {
    doc: 'Checks if any element of an array satisfies the predicate.',
    signature: 'some(array, predicate)',
    tests: [
      ['some([1, 2], (x) => x > 1)', 'true'],
      ['some([1, 2], (x) => x > 2)', 'false'],
    ],
  },
  {
    doc: 'Checks if value is a promise.',
    signature: 'isPromise(value)',
    tests: [
      ['isPromise(Promise.resolve(1))', 'true'],
      ['isPromise({})', 'false'],
    ],
  },
];
