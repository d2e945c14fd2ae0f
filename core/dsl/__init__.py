"""The automation language: schema, validation, expressions. Pure, without I/O."""
