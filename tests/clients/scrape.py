"""Reads Prometheus's text from standard input with the official client's parser, and prints every
sample as `name<TAB>labels<TAB>value`, labels as `a=b,c=d` in the order of their names."""

import sys

from prometheus_client.parser import text_string_to_metric_families

seen = set()
for family in text_string_to_metric_families(sys.stdin.read()):
    if family.name in seen:
        sys.exit(f"{family.name} has two heads")
    seen.add(family.name)
    if not family.documentation:
        sys.exit(f"{family.name} says nothing about itself")
    if not family.samples:
        sys.exit(f"{family.name} has no samples")
    samples = set()
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        if (sample.name, labels) in samples:
            sys.exit(f"{sample.name} {labels} stands twice")
        samples.add((sample.name, labels))
        print(sample.name, labels, repr(float(sample.value)), sep="\t")
