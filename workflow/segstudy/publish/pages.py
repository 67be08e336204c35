"""How pages are made of their templates."""

import jinja2


def environment() -> jinja2.Environment:
    """Return the environment of the templates of pages: values are escaped, and one that is missing is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("segstudy.publish", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
