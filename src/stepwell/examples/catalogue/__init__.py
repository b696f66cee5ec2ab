"""A product catalogue built from a shop that misbehaves: the program that `stepwell demo` runs.

A local shop sells products whose pictures are icons, photographed in different ways. The workflow fetches every page
and picture over HTTP, measures the pictures, finds products that show the same drawing, scores what it found against
the shop's own groups, and exports the results. Some pages are slow, some fail once or twice, some always, some
pictures are damaged; what cannot be processed is listed with its reason.

The similarity threshold was chosen on the shop with seed 1 and checked on seeds 2 and 3, 10,000 products each with the
pictures of QtAwesome 1.4.2, all photographs included (precision and recall over pairs of products in one group):

| seed | precision | recall | true pairs |
|---|---|---|---|
| 1 | 0.961 | 0.983 | 8,722 |
| 2 | 0.972 | 0.982 | 9,025 |
| 3 | 0.970 | 0.977 | 8,789 |

Most of the wrong pairs are drawings that mean the same in two fonts (a division sign, a chevron) or differ in a small
mark (`puzzle-plus`, `puzzle-star`); most of the missed ones are tilted or cut off. The generated shapes that stand in
when the package is not installed are easier: 1.000 and 0.990.

| module | question |
|---|---|
| `demo` | what does the command call? `prepare`, `order`, `describe` |
| `workflow`, `tasks`, `records` | what is run, and what do the steps hand to each other? |
| `graph`, `catalogue.yaml` | what is the same as a graph? |
| `web`, `pages`, `features`, `similar`, `export`, `sheet` | what do the tasks do? plain functions |
| `shop`, `counter`, `ledger`, `stock`, `photo`, `images`, `where` | what is the other side? a process of its own |
"""
