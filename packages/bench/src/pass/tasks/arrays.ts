import type { Task } from '../task.ts';

/** Arrays in. */
export const arrays: readonly Task[] = [
  {
    doc: 'Returns the sum of an array of numbers.',
    signature: 'sum(numbers)',
    tests: [
      ['sum([1, 2, 3])', '6'],
      ['sum([])', '0'],
    ],
  },
  {
    doc: 'Returns the mean of an array of numbers.',
    signature: 'mean(numbers)',
    tests: [
      ['mean([1, 2, 3])', '2'],
      ['mean([1, 2])', '1.5'],
    ],
  },
  {
    doc: 'Returns the largest number of an array.',
    signature: 'maxOf(numbers)',
    tests: [
      ['maxOf([3, 9, 2])', '9'],
      ['maxOf([-3, -1])', '-1'],
    ],
  },
  {
    doc: 'Returns a copy of an array.',
    signature: 'copy(array)',
    tests: [
      ['copy([1, 2])', '[1, 2]'],
      ['((a) => copy(a) === a)([])', 'false'],
    ],
  },
  {
    doc: 'Returns the first element of an array.',
    signature: 'first(array)',
    tests: [
      ['first([1, 2, 3])', '1'],
      ['first([])', 'undefined'],
    ],
  },
  {
    doc: 'Returns the last element of an array.',
    signature: 'last(array)',
    tests: [
      ['last([1, 2, 3])', '3'],
      ['last([])', 'undefined'],
    ],
  },
  {
    doc: 'Returns all elements of an array but the first.',
    signature: 'tail(array)',
    tests: [
      ['tail([1, 2, 3])', '[2, 3]'],
      ['tail([1])', '[]'],
    ],
  },
  {
    doc: 'Returns a reversed copy of an array.',
    signature: 'reversed(array)',
    tests: [
      ['reversed([1, 2, 3])', '[3, 2, 1]'],
      ['reversed([])', '[]'],
    ],
  },
  {
    doc: 'Returns all elements of an array but the last.',
    signature: 'initial(array)',
    tests: [
      ['initial([1, 2, 3])', '[1, 2]'],
      ['initial([1])', '[]'],
    ],
  },
  {
    doc: 'Returns the first n elements of an array.',
    signature: 'take(array, n)',
    tests: [
      ['take([1, 2, 3], 2)', '[1, 2]'],
      ['take([1], 5)', '[1]'],
    ],
  },
  {
    doc: 'Returns an array without its first n elements.',
    signature: 'drop(array, n)',
    tests: [
      ['drop([1, 2, 3], 2)', '[3]'],
      ['drop([1], 5)', '[]'],
    ],
  },
  {
    doc: 'Returns value if it is an array, and otherwise an array with only the value.',
    signature: 'toArray(value)',
    tests: [
      ['toArray([1])', '[1]'],
      ['toArray(1)', '[1]'],
    ],
  },
  {
    doc: 'Returns the length of an array.',
    signature: 'size(array)',
    tests: [
      ['size([1, 2, 3])', '3'],
      ['size([])', '0'],
    ],
  },
  {
    doc: 'Checks if an array is empty.',
    signature: 'isEmpty(array)',
    tests: [
      ['isEmpty([])', 'true'],
      ['isEmpty([0])', 'false'],
    ],
  },
  {
    doc: 'Checks if an array contains a value.',
    signature: 'contains(array, value)',
    tests: [
      ['contains([1, 2, 3], 2)', 'true'],
      ['contains([1, 2, 3], 4)', 'false'],
    ],
  },
  {
    doc: 'Calls fn for each element of an array.',
    signature: 'forEach(array, fn)',
    tests: [['((seen) => { forEach([1, 2], (x) => seen.push(x)); return seen; })([])', '[1, 2]']],
  },
  {
    doc: 'Returns the unique values of an array.',
    signature: 'unique(array)',
    tests: [
      ['unique([1, 2, 1, 3, 2])', '[1, 2, 3]'],
      ['unique([])', '[]'],
    ],
  },
  {
    doc: 'Flattens an array of arrays by one level.',
    signature: 'flatten(arrays)',
    tests: [
      ['flatten([[1], [2, 3]])', '[1, 2, 3]'],
      ['flatten([])', '[]'],
    ],
  },
  {
    doc: 'Returns an array of the numbers from start up to, but not including, end.',
    signature: 'range(start, end)',
    tests: [
      ['range(1, 4)', '[1, 2, 3]'],
      ['range(0, 2)', '[0, 1]'],
    ],
  },
  {
    doc: 'Returns the first element for which the predicate is true.',
    signature: 'find(array, predicate)',
    tests: [
      ['find([1, 2, 3], (x) => x > 1)', '2'],
      ['find([1], (x) => x > 1)', 'undefined'],
    ],
  },
  {
    doc: 'Splits an array into chunks of the given size.',
    signature: 'chunk(array, size)',
    tests: [
      ['chunk([1, 2, 3, 4, 5], 2)', '[[1, 2], [3, 4], [5]]'],
      ['chunk([], 2)', '[]'],
    ],
  },
  {
    doc: 'Returns the values of the first array that are not in the second.',
    signature: 'difference(a, b)',
    tests: [
      ['difference([1, 2, 3], [2])', '[1, 3]'],
      ['difference([1], [1])', '[]'],
    ],
  },
  {
    doc: 'Applies a function to each element of an array and returns the results.',
    signature: 'map(array, fn)',
    tests: [
      ['map([1, 2], (x) => x * 2)', '[2, 4]'],
      ['map([], (x) => x)', '[]'],
    ],
  },
  {
    doc: 'Returns the index of a value in an array, or -1.',
    signature: 'indexOf(array, value)',
    tests: [
      ['indexOf([5, 6], 6)', '1'],
      ['indexOf([5, 6], 7)', '-1'],
    ],
  },
  {
    doc: 'Returns the elements of an array for which the predicate is true.',
    signature: 'filter(array, predicate)',
    tests: [
      ['filter([1, 2, 3], (x) => x > 1)', '[2, 3]'],
      ['filter([1], (x) => x > 1)', '[]'],
    ],
  },
  {
    doc: 'Returns a sorted copy of an array of numbers, smallest first.',
    signature: 'sortNumbers(numbers)',
    tests: [
      ['sortNumbers([10, 9, 1])', '[1, 9, 10]'],
      ['sortNumbers([])', '[]'],
    ],
  },
  {
    doc: 'Adds an item to the end of an array and returns a new array.',
    signature: 'append(array, item)',
    tests: [
      ['append([1], 2)', '[1, 2]'],
      ['append([], 1)', '[1]'],
    ],
  },
];
