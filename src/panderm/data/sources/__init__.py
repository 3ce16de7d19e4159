"""The public datasets: from their official files to our table.

One file a family. Each holds a :class:`~panderm.data.sources.source.Source` a dataset and the function that
reads its official tables: from a :class:`~panderm.data.sources.folder.Folder` to
:class:`~panderm.data.sources.source.Prepared` rows that name images by id. All else, finding the images,
comparing counts, writing the CSV, is :func:`~panderm.data.sources.prepare.prepare`, the same for all.
A new dataset is a value more in :data:`~panderm.data.sources.known.KNOWN`.
"""
