import type { Task } from '../task.ts';

/** Numbers in, a number out. */
export const numbers: readonly Task[] = [
  {
    doc: 'Returns the sum of two numbers.',
    signature: 'add(a, b)',
    tests: [
      ['add(1, 2)', '3'],
      ['add(-4, 1)', '-3'],
    ],
  },
  {
    doc: 'Subtracts the second number from the first.',
    signature: 'subtract(a, b)',
    tests: [
      ['subtract(5, 2)', '3'],
      ['subtract(1, 4)', '-3'],
    ],
  },
  {
    doc: 'Doubles a number.',
    signature: 'double(x)',
    tests: [
      ['double(3)', '6'],
      ['double(-5)', '-10'],
    ],
  },
  {
    doc: 'Multiplies two numbers.',
    signature: 'multiply(a, b)',
    tests: [
      ['multiply(3, 4)', '12'],
      ['multiply(-2, 5)', '-10'],
    ],
  },
  {
    doc: 'Divides the first number by the second.',
    signature: 'divide(a, b)',
    tests: [
      ['divide(8, 2)', '4'],
      ['divide(1, 4)', '0.25'],
    ],
  },
  {
    doc: 'Adds one to a number.',
    signature: 'increment(n)',
    tests: [
      ['increment(3)', '4'],
      ['increment(-1)', '0'],
    ],
  },
  {
    doc: 'Returns the square of a number.',
    signature: 'square(x)',
    tests: [
      ['square(3)', '9'],
      ['square(-5)', '25'],
    ],
  },
  {
    doc: 'Returns the larger of two numbers.',
    signature: 'max(a, b)',
    tests: [
      ['max(1, 2)', '2'],
      ['max(5, -3)', '5'],
      ['max(4, 4)', '4'],
    ],
  },
  {
    doc: 'Returns the cube of a number.',
    signature: 'cube(x)',
    tests: [
      ['cube(3)', '27'],
      ['cube(-2)', '-8'],
    ],
  },
  {
    doc: 'Returns the smaller of two numbers.',
    signature: 'min(a, b)',
    tests: [
      ['min(1, 2)', '1'],
      ['min(5, -3)', '-3'],
      ['min(4, 4)', '4'],
    ],
  },
  {
    doc: 'Returns the absolute value of a number.',
    signature: 'abs(value)',
    tests: [
      ['abs(-3)', '3'],
      ['abs(7)', '7'],
      ['abs(0)', '0'],
    ],
  },
  {
    doc: 'Returns the area of a rectangle.',
    signature: 'area(width, height)',
    tests: [
      ['area(3, 4)', '12'],
      ['area(5, 0)', '0'],
    ],
  },
  {
    doc: 'Limits a number to the range from min to max.',
    signature: 'clamp(value, min, max)',
    tests: [
      ['clamp(5, 0, 3)', '3'],
      ['clamp(-5, 0, 3)', '0'],
      ['clamp(2, 0, 3)', '2'],
    ],
  },
  {
    doc: 'Converts degrees to radians.',
    signature: 'toRadians(degrees)',
    tests: [
      ['toRadians(180).toFixed(6)', "'3.141593'"],
      ['toRadians(90).toFixed(6)', "'1.570796'"],
    ],
  },
  {
    doc: 'Compares two numbers: negative if a is smaller, positive if b is smaller, 0 if they are equal.',
    signature: 'compare(a, b)',
    tests: [
      ['compare(1, 2) < 0', 'true'],
      ['compare(5, 2) > 0', 'true'],
      ['compare(2, 2)', '0'],
    ],
  },
  {
    doc: 'Returns the factorial of n.',
    signature: 'factorial(n)',
    tests: [
      ['factorial(0)', '1'],
      ['factorial(1)', '1'],
      ['factorial(5)', '120'],
    ],
  },
  {
    doc: 'Returns the nth Fibonacci number.',
    signature: 'fibonacci(n)',
    tests: [
      ['fibonacci(1)', '1'],
      ['fibonacci(2)', '1'],
      ['fibonacci(10)', '55'],
    ],
  },
  {
    doc: 'Converts a string to a number.',
    signature: 'toNumber(value)',
    tests: [
      ["toNumber('12')", '12'],
      ["toNumber('1.5')", '1.5'],
    ],
  },
  {
    doc: 'Returns the greatest common divisor of a and b.',
    signature: 'gcd(a, b)',
    tests: [
      ['gcd(12, 18)', '6'],
      ['gcd(7, 5)', '1'],
      ['gcd(9, 3)', '3'],
    ],
  },
  {
    doc: 'Returns the average of two numbers.',
    signature: 'average(a, b)',
    tests: [
      ['average(2, 4)', '3'],
      ['average(1, 2)', '1.5'],
    ],
  },
  {
    doc: 'Returns the remainder of dividing a by b.',
    signature: 'mod(a, b)',
    tests: [
      ['mod(7, 3)', '1'],
      ['mod(6, 2)', '0'],
    ],
  },
];
