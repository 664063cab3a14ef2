#pragma once

namespace mmoe {

// Expected number of multiples of `multiple` that cover one expert's rows when their mean is `mean_rows`. Loads that
// spread by more than one multiple leave (multiple - 1) / 2 rows over on average (uniform remainder); an expert without
// rows, of probability exp(-mean_rows) (Poisson arrivals), takes none, any other at least one.
double expected_multiples(double mean_rows, double multiple);

}  // namespace mmoe
