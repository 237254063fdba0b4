"""The support bundle: data that the Secretariat needs for help, without records of the application.

It consists of a fixed list of parts; parts that a damaged site cannot provide are listed as
missing. Collecting it changes nothing and sends nothing.
"""
