import type { Task } from '../task.ts';

/** Text in, text or a number out. */
export const strings: readonly Task[] = [
  {
    doc: 'Converts a string to upper case.',
    signature: 'toUpperCase(string)',
    tests: [
      ["toUpperCase('abc')", "'ABC'"],
      ["toUpperCase('Hello World')", "'HELLO WORLD'"],
    ],
  },
  {
    doc: 'Reverses a string.',
    signature: 'reverse(str)',
    tests: [
      ["reverse('abc')", "'cba'"],
      ["reverse('')", "''"],
    ],
  },
  {
    doc: 'Makes the first letter of a string upper case.',
    signature: 'capitalize(str)',
    tests: [
      ["capitalize('hello')", "'Hello'"],
      ["capitalize('a b')", "'A b'"],
    ],
  },
  {
    doc: 'Repeats a string n times.',
    signature: 'repeat(string, n)',
    tests: [
      ["repeat('ab', 3)", "'ababab'"],
      ["repeat('x', 0)", "''"],
    ],
  },
  {
    doc: 'Makes the first letter of a string lower case.',
    signature: 'uncapitalize(str)',
    tests: [
      ["uncapitalize('Hello')", "'hello'"],
      ["uncapitalize('ABC')", "'aBC'"],
    ],
  },
  {
    doc: 'Removes white space from both ends of a string.',
    signature: 'trim(string)',
    tests: [
      ["trim('  ab ')", "'ab'"],
      ["trim('a b')", "'a b'"],
    ],
  },
  {
    doc: 'Converts a string to lower case.',
    signature: 'lower(str)',
    tests: [
      ["lower('ABC')", "'abc'"],
      ["lower('Hello World')", "'hello world'"],
    ],
  },
  {
    doc: 'Checks if a string starts with the given prefix.',
    signature: 'startsWith(string, prefix)',
    tests: [
      ["startsWith('hello', 'he')", 'true'],
      ["startsWith('hello', 'lo')", 'false'],
    ],
  },
  {
    doc: 'Checks if a string ends with the given suffix.',
    signature: 'endsWith(string, suffix)',
    tests: [
      ["endsWith('hello', 'lo')", 'true'],
      ["endsWith('hello', 'he')", 'false'],
    ],
  },
  {
    doc: 'Converts a value to a string.',
    signature: 'toString(value)',
    tests: [
      ['toString(12)', "'12'"],
      ["toString('a')", "'a'"],
    ],
  },
  {
    doc: 'Checks if a string contains the given substring.',
    signature: 'includes(string, substring)',
    tests: [
      ["includes('hello', 'ell')", 'true'],
      ["includes('hello', 'xyz')", 'false'],
    ],
  },
  {
    doc: 'Removes all spaces from a string.',
    signature: 'removeSpaces(str)',
    tests: [
      ["removeSpaces(' a b c ')", "'abc'"],
      ["removeSpaces('abc')", "'abc'"],
    ],
  },
  {
    doc: 'Returns the first character of a string.',
    signature: 'firstChar(str)',
    tests: [
      ["firstChar('hello')", "'h'"],
      ["firstChar('x')", "'x'"],
    ],
  },
  {
    doc: 'Puts a string in double quotes.',
    signature: 'quote(str)',
    tests: [["quote('a')", '\'"a"\'']],
  },
  {
    doc: 'Returns the last character of a string.',
    signature: 'lastChar(str)',
    tests: [
      ["lastChar('hello')", "'o'"],
      ["lastChar('x')", "'x'"],
    ],
  },
  {
    doc: 'Splits a string into words separated by spaces.',
    signature: 'words(str)',
    tests: [
      ["words('one two three')", "['one', 'two', 'three']"],
      ["words('one')", "['one']"],
    ],
  },
  {
    doc: 'Checks if a string is empty.',
    signature: 'isEmptyString(str)',
    tests: [
      ["isEmptyString('')", 'true'],
      ["isEmptyString('a')", 'false'],
    ],
  },
  {
    doc: 'Joins the items of an array with the separator.',
    signature: 'join(array, separator)',
    tests: [
      ["join(['a', 'b'], '-')", "'a-b'"],
      ["join([], ',')", "''"],
    ],
  },
  {
    doc: 'Returns the length of a string.',
    signature: 'length(str)',
    tests: [
      ["length('abc')", '3'],
      ["length('')", '0'],
    ],
  },
  {
    doc: 'Checks if a string reads the same backwards.',
    signature: 'isPalindrome(str)',
    tests: [
      ["isPalindrome('level')", 'true'],
      ["isPalindrome('hello')", 'false'],
    ],
  },
  {
    doc: 'Concatenates two strings.',
    signature: 'concat(a, b)',
    tests: [
      ["concat('ab', 'c')", "'abc'"],
      ["concat('', 'x')", "'x'"],
    ],
  },
];
