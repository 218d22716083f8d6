//! What cannot be written, with the message that names the line to add.

#[test]
fn undeclared_access_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
