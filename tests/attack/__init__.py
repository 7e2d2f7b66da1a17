"""What somebody does who must not get in, or not further: each threat of docs/security.md, and a fuzzer."""
