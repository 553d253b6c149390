"""Generated files are those that the models give now."""

import pytest

from ontogeny.schemas import MODELS, schema_file, schema_text


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_schema_is_up_to_date(name):
    assert schema_file(name).read_text() == schema_text(name), "run `make schemas`"
