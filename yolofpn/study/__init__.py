"""The FPN paper's study: systems that differ in one thing, trained alike and compared beside the paper's figures."""
